"""Files of other programs: models that they read, and models that they made."""
