"""What the recipe adds to Composer's own callbacks."""
