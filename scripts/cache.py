"""Shows what the cache folder holds, and removes it: ``python scripts/kill.py --help``."""

if __name__ == "__main__":
    import signal
    import sys

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported ends it in silence
    from emp_gym.cli.cache import main

    sys.exit(main())
