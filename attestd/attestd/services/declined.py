"""How a service declines what an operator asks."""


class Declined(Exception):
    """An operator's request is declined and nothing was changed; `code` is stable, the message says what to do next."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
