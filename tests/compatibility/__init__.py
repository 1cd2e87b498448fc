"""Other projects' own tests, run on what offloop puts in the place of theirs.

They are whole suites of minutes, fetched by nobody: the installed packages, and the interpreter, bring them. So pytest doesn't collect
them; each is a command, which fails where a test fails that its table doesn't list with a cause:

    python -m tests.compatibility.joblib_suites [SUITE ...] [--peer]    joblib's and scikit-learn's, on the backend "offloop"
    python -m tests.compatibility.cpython_executor [--peer]             CPython's of executors, on that of a session
"""
