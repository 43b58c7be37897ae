"""Protocols of the work chains: YAML files, and what reads them.

Begin with ``campaign.yaml``, which has the defaults of a campaign, and with :mod:`.utils`, which turns a protocol and overrides
into the inputs of a builder. :mod:`.spin` adds magnetism to a recipe.
"""
