"""What the agent keeps in order on its node: one file for each thing, all of one shape.

Everything here blocks and belongs in a worker thread; see base.Resource.
"""
