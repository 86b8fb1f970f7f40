"""The one exception that reaches a user of the command line as a message instead of a traceback.

It must not know which command raises it.
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a missing thing that the user can mend.

    The message names the file or field, the value and the remedy, in one or a few lines, and holds neither prompts nor keys.
    """
