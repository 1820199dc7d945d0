"""A training run: the recipe, the schedule, the loop, and what it leaves to go on from and to read."""
