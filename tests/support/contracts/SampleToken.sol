// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// A token that says its name, symbol and decimals with each transfer, as the tokens of QuickDapp do.
contract SampleToken is ERC20 {
    event TokenTransferred(
        address indexed from,
        address indexed to,
        uint256 value,
        string name,
        string symbol,
        uint8 decimals
    );

    uint8 private immutable _decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_, address owner, uint256 supply)
        ERC20(name_, symbol_)
    {
        _decimals = decimals_;
        _mint(owner, supply);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    /// Transfer the same amount many times: as many events in one transaction.
    function transferTimes(address to, uint256 value, uint256 times) external {
        for (uint256 i = 0; i < times; ++i) {
            _transfer(msg.sender, to, value);
        }
    }

    /// Only transfers between holders are announced, not the mint of the supply.
    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) {
            emit TokenTransferred(from, to, value, name(), symbol(), decimals());
        }
    }
}
