"""Where the stories of requests are kept, and what they cost."""
