"""Devices and the arrays on them: which native module serves which device, memory, and arrays that others own."""
