"""What a sample is: sheets, data sets and item collections read, products named."""
