"""What the agent keeps in order on its node: one file for each thing, all of one shape.

Everything here blocks and belongs in a worker thread; see base.Resource. At a start the order is
guard, firewall, the lanes (agent.backend), sysctls, links, routes, cni: nothing leaves in the clear
before the first lane is there, and a route may name an address as its source only when it is set.
"""
