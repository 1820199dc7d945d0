"""What a program needs of its system: files, signals, terminal and machine, and checks of what comes from outside."""
