"""Facts about a request: difficulty, data class, language, shape."""
