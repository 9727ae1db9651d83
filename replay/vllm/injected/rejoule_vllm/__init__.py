"""What runs inside vLLM's engine process; imports only the standard library, NumPy, torch and vLLM."""
