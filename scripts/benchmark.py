"""Measures parse, replay, env or train: python scripts/benchmark.py NAME [--json]"""

if __name__ == "__main__":
    import signal
    import sys

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported ends it in silence
    from emp_gym.cli.benchmark import main

    sys.exit(main())
