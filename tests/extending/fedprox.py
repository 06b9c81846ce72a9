"""FedProx (arXiv 1812.06127): each local step is pulled towards the model that the client received."""

from mindfl.algorithms import Algorithm, Correction


class FedProx(Algorithm):
    def __init__(self, mu=0.1):
        self.mu = mu

    def begin(self, client):
        return Correction(pull=self.mu, towards=client.received)
