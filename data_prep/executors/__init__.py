"""Where tasks run: processes here, a Ray cluster, or the ranks of a Slurm array. They know nothing of the stages."""
