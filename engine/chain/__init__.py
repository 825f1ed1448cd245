"""From the Schroedinger equation to a shock wave: levels that hand on value and error.

    labels -> pair potential -> cross sections -> transport -> kinetic equation -> shock

Every level is a function of torch tensors, so that one backward pass gives the derivative
of the thickness of a shock by every label; a level refuses what the one before it does not
vouch for.
"""
