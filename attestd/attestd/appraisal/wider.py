"""Whether one policy about the runtime list accepts whatever another one has accepted.

Proves, where it says yes, that a list on which the earlier policy found nothing gives the later one nothing to find either: its
step 7 need not see the list again. Says no where it cannot tell from the policies alone. Does not look at any list.
"""

from attestd.appraisal.policy import Check, RuntimePolicy, Violations


def accepts_all_of(later: RuntimePolicy, earlier: RuntimePolicy) -> bool:
    """Return whether `later` is at least as wide as `earlier`, for lists that affirmed under `earlier`.

    Under `warn` and `refuse` an affirming list had no violations; under `allow` nobody counted them.
    """
    if later.check is Check.IGNORED:
        return True
    if not (later.check.judges and earlier.check.judges):
        return False
    if earlier.violations is Violations.ALLOW and later.violations is not Violations.ALLOW:
        return False
    return earlier.accepted <= later.accepted and set(earlier.exclude) <= set(later.exclude)
