"""How each parameter is differentiated, and the tests on which that rests."""
