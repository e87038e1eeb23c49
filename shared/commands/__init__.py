"""What the command line offers besides the comparison itself; one module a command."""
