"""Pairs of questions that lie close together: such as turn a meaning, and such as keep it."""

TURNED = """
Is it safe to eat raw eggs?|Is it unsafe to eat raw eggs?
Is it safe to mix bleach and vinegar?|Is it not safe to mix bleach and vinegar?
How do I enable two-factor login?|How do I disable two-factor login?
Can I take this with alcohol?|Can't I take this with alcohol?
Which drugs are legal here?|Which drugs are illegal here?
Set the dose to 10 mg|Set the dose to 100 mg
What happened in 1918?|What happened in 1981?
Remind me in two hours|Remind me in three hours
Pay 1,000 to the landlord|Pay 10,000 to the landlord
Is version 3.1 supported?|Is version 3.11 supported?
Who won, Anna against Maria?|Who won, Maria against Anna?
Did Google buy Fitbit?|Did Fitbit buy Google?
Convert 5 euros to dollars|Convert 5 dollars to euros
Move money from savings to checking|Move money from checking to savings
Flights from Rome to Oslo|Flights from Oslo to Rome
What is the capital of Austria?|What is the capital of Australia?
Weather in Paris, Texas|Weather in Paris, France
Is the meeting before noon?|Is the meeting after noon?
Who is allowed to enter?|Who is denied to enter?
Is the shop open on Sunday?|Is the shop closed on Sunday?
Does the dog bite the man?|Does the man bite the dog?
Can I deduct this expense?|Can I deduct this income?
List all users with admin rights|List all users without admin rights
Delete the first row|Delete the last row
Does aspirin help cats?|Does aspirin help dogs?
Is a reversible change allowed?|Is an irreversible change allowed?
How do I install the driver?|How do I uninstall the driver?
What does `git pull` do?|What does `git push` do?
Translate "good morning"|Translate "good evening"
Can children under 12 travel?|Can children over 12 travel?
May I cancel a booking?|May I never cancel a booking?
Show orders above 50|Show orders below 50
What are the pros of nuclear power?|What are the cons of nuclear power?
Is chicken safe to eat?|Is raw chicken safe to eat?
"""
SAME = """
How do I reset my password?|How can I reset my password?
How do I reset my password?|how do i reset my password
What is the capital of France?|What's the capital of France, please?
Where is my card?|Where are my cards?
Tell me the capital of France|What is the capital of France?
Why was my transfer declined?|Why has my transfer been declined?
Can I get a refund for two tickets?|Could I have a refund for 2 tickets?
I would like to close my account|I want to close my account
"""


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the two questions of each line."""
    return [(left, right) for left, _, right in (line.partition("|") for line in text.strip().splitlines())]
