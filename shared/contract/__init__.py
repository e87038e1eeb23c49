"""What the parent and the wings agree on: recipe, plan, model, jobs and results, what a wing offers."""
