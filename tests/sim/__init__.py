"""The whole house in one thread on virtual time: memory stores and a scripted PSP."""
