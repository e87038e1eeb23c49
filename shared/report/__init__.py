"""What people and programs get to see: the console's table and the documents on disk."""
