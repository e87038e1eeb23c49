"""The parity ladder: every wing climbs, what they wrote is compared, and the first difference is named."""
