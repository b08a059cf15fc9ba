"""Consumers on twins of their servers, under one clock and one seed.

Processes are greenlets, of which one runs at a time. Each call to a server is a point at which
another may go on, or at which the call fails, the process dies or stands still: world.py. What
befalls the servers themselves: weather.py. What a process is made of: process.py. What must
be true in the end: checks.py.
"""
