"""What tests run in processes of their own, each of which imports one framework. No test imports anything of it."""
