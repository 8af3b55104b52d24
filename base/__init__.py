"""What every command stands on: configuration, errors, storage, progress. Nothing heavy is imported here."""
