"""The two ways in which a step says no; the command line turns them into exit statuses."""


class WrongInput(ValueError):
    """What was asked for cannot be done as asked. One line: what is wrong, and what would be right. Exit status 2."""


class Refused(RuntimeError):
    """A gate or a check did not pass. One line that says which, and by how much. Exit status 3."""
