"""Reading the client's transcript files: new bytes in, answers of the API and tool calls out. Stores nothing."""
