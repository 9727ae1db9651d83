"""The LangGraph workloads and the recorder that turns a live graph into a trace."""
