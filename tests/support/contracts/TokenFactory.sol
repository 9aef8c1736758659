// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SampleToken} from "./SampleToken.sol";

/// Makes tokens; the whole supply goes to who asked for one.
contract TokenFactory {
    event ERC20NewToken(
        address indexed token,
        string name,
        string symbol,
        address indexed creator,
        uint256 initialSupply
    );

    function createToken(string calldata name, string calldata symbol, uint8 decimals, uint256 initialSupply)
        external
        returns (address)
    {
        SampleToken token = new SampleToken(name, symbol, decimals, msg.sender, initialSupply);
        emit ERC20NewToken(address(token), name, symbol, msg.sender, initialSupply);
        return address(token);
    }
}
