"""Risk checks behind the port `RiskCheck`: who may pay, and whom."""
