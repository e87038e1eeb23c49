"""What both wings share: recipe, data, plan, checkpoints, evaluation, reports. Imports no framework."""
