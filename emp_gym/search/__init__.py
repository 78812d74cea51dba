"""Search: populations of agent configurations evolve with NSGA-II on several objectives. `docs/search.md` says what is promised.

================  ====================================================================================================
``space.py``      genomes, and what they may be: the seam for other kinds of genomes
``pareto.py``     dominance, the order of a population, hypervolume
``work.py``       one training run and its judgement, as plain data in and out: what an engine distributes
``store.py``      the study's journal: repaired after a crash, one driver at a time
``driver.py``     generations, successive halving, what is told of each trial
``champion.py``   the chosen trial: rebuilt, written down, judged once on test time
``noting.py``     every training run in a governance ledger
``report.py``     table, picture and page of a study
``versus.py``     does it beat random search at equal environment steps?
================  ====================================================================================================
"""
