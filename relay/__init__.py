"""The relay: takes alerts from anywhere, keeps them safe, hands them to the executor at home."""
