"""The parity ladder: both wings climb, what they wrote is compared, and the first difference is named."""
