"""Any file of any machine becomes a report for a person: what it says, whether it holds, and why not.

Pure functions from bytes to frozen reports. They prove what the rooms below prove and no more: a report is not evidence, and
nothing that is decided about a device goes through here.
"""
