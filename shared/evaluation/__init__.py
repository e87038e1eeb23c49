"""From logits to metrics, intervals and verdicts."""
