# The entry from the top of the checkout; the workflow itself is in workflow/.
include: "workflow/Snakefile"
