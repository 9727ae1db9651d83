"""What of the findings was measured on H200s."""
