"""What is served right now and where it comes from: YAML files or a snapshot, credentials, the artifact, and their changes.

Owns reading, checking and replacing them. Must not know requests, nor how one is answered.
"""
