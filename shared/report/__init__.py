"""What people see: console, plots, pages, event files."""
