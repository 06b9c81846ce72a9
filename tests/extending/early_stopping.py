"""A callback: ends the training when the loss has not fallen for some rounds, and notes the lowest loss."""


class EarlyStopping:
    def __init__(self, patience=1, least=0.0):
        self.patience, self.least = patience, least

    def row(self, row, model, state):
        fell = row.loss < state.get("lowest", float("inf")) - self.least
        state["lowest"] = row.loss if fell else state["lowest"]
        state["waited"] = 0 if fell else state.get("waited", 0) + 1
        row.metrics["lowest_loss"] = state["lowest"]
        return state["waited"] >= self.patience
