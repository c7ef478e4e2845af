"""What this process may do, and how it gets what builds need: the privilege profiles.

`profile` finds out which one holds and takes it; `subids` reads which ids a user
was given; `namespace` enters a user namespace. Words: a *profile* is what the
machine allows, not what somebody wishes.
"""
