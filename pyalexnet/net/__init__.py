"""The net: its program, what runs it, what it costs, and the files that hold it."""
