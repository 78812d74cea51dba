"""Looks through a decision diary: ``python scripts/diary.py --help``."""

if __name__ == "__main__":
    import signal
    import sys

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported ends it in silence
    from emp_gym.cli.diary import main

    sys.exit(main())
