"""Published and simple routers, reduced to what every strategy here sees of a prompt: opponents that fused has to surpass.

Owns one class per method, over shared parts for inputs, calibration, clusters and networks. Must not know fused, nor how it is measured.
"""
