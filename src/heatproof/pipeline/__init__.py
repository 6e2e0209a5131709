"""What a run does, stage by stage; the command line calls these modules and adds nothing. Importing it loads nothing.

plan         what to do: data, model and the options of the study
registries   methods, metrics, fills, data sets, recipes and networks by name
manifest     run.json, by which a folder belongs to one run
defaults     what is done where the plan leaves it open
match        data and model that come from different places
stages       train or load, evaluate, explain, judge, report
run          all stages, into one folder
completion   what a finished run left, and whether it may be taken up as it is
mapfile      maps on disk, written chunk by chunk
cases        three samples of one class, examined closely
archive      finished runs: read, and reported again
comparison   finished runs side by side
"""
