"""The built-in paper TWS: a broker that speaks the TWS socket protocol, with orders, fills, books and faults.

It imports nothing of the executor and nothing of the executor imports it: they meet on a TCP port.
"""
