# The entry from the top of the checkout; the workflow itself is in workflow/.
include: "workflow/Snakefile"


rule everything:
    """Make what the workflow makes by itself."""
    default_target: True
    input:
        rules.all.input,
