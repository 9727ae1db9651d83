"""What this machine can measure and control, and how to fix what it cannot. Nothing is changed to find out."""
