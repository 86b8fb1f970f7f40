"""The HTTP front end: an OpenAI-compatible API on aiohttp.

Owns paths, headers, status codes and relaying. Must not know the fields of bodies, nor where the configuration comes from.
"""
